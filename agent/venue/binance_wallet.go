package venue

import "slices"

// binanceWallet is /sapi: an explicit list of what only reads, and what moves
// funds or keys. All else there is unknown, margin trading, loans, earn and
// conversions among it. Amounts are in the asset.
func binanceWallet() []row {
	return slices.Concat(
		public("GET /sapi/v1/", "system/status"),
		reads("GET /sapi/v1/", "accountSnapshot account/info account/status account/apiTradingStatus account/apiRestrictions asset/assetDetail"+
			" asset/tradeFee asset/assetDividend asset/dribblet asset/wallet/balance asset/transfer asset/ledger-transfer/cloud-mining/queryByPage"+
			" asset/convert-transfer/queryByPage capital/config/getall capital/deposit/address capital/deposit/address/list capital/deposit/hisrec"+
			" capital/withdraw/history capital/withdraw/address/list spot/delist-schedule bnbBurn fiat/orders fiat/payments c2c/orderMatch/listUserOrderHistory"+
			" rebate/taxQuery pay/transactions margin/allAssets margin/allPairs margin/isolated/allPairs margin/isolated/account margin/account"+
			" margin/priceIndex margin/order margin/openOrders margin/allOrders margin/orderList margin/openOrderList margin/allOrderList margin/myTrades"+
			" margin/maxBorrowable margin/maxTransferable margin/tradeCoeff margin/transfer margin/borrow-repay margin/interestHistory"+
			" margin/forceLiquidationRec margin/interestRateHistory margin/crossMarginData margin/isolatedMarginData margin/isolatedMarginTier"+
			" margin/rateLimit/order margin/crossMarginCollateralRatio margin/next-hourly-interest-rate margin/capital-flow margin/delist-schedule"+
			" margin/available-inventory margin/leverageBracket portfolio/account portfolio/balance portfolio/collateralRate portfolio/asset-index-price"+
			" sub-account/list sub-account/sub/transfer/history sub-account/transfer/subUserHistory sub-account/universalTransfer sub-account/status"+
			" sub-account/spotSummary futures/transfer simple-earn/account simple-earn/flexible/list simple-earn/locked/list"+
			" simple-earn/flexible/position simple-earn/locked/position convert/tradeFlow convert/exchangeInfo convert/assetInfo convert/orderStatus"),
		reads("GET /sapi/v2/", "portfolio/account portfolio/collateralRate sub-account/futures/account sub-account/futures/accountSummary"),
		reads("POST /sapi/", "v1/asset/get-funding-asset v3/asset/getUserAsset"),
		binanceFunds(), binanceAdmin(),
	)
}

// binanceFunds is what moves funds.
func binanceFunds() []row {
	moves := shape{asset: "asset", quantity: "amount"}
	toEmail := shape{asset: "asset", quantity: "amount", address: "toEmail"}
	toID := shape{asset: "asset", quantity: "amount", address: "toId"}
	withdrawal := shape{asset: "coin", quantity: "amount", network: "network", address: "address", tag: "addressTag", client: "withdrawOrderId"}
	const withdraw = "coin! address! amount! network addressTag withdrawOrderId transactionFeeFlag name walletType"
	return []row{
		{op: Withdraw, line: "POST /sapi/v1/capital/withdraw/apply", takes: withdraw, shape: &withdrawal},
		{op: Withdraw, line: "POST /sapi/v1/localentity/withdraw/apply", takes: withdraw + " questionnaire!", shape: &withdrawal},
		{op: Transfer, line: "POST /sapi/v1/asset/transfer", takes: "type! asset! amount! fromSymbol toSymbol", shape: &moves},
		{op: Transfer, line: "POST /sapi/v1/asset/convert-transfer", takes: "clientTranId! asset! amount! targetAsset! accountType", shape: &moves},
		{op: Transfer, line: "POST /sapi/v1/margin/transfer", takes: "asset! amount! type!", shape: &moves},
		{op: Transfer, line: "POST /sapi/v1/margin/isolated/transfer", takes: "asset! symbol! transFrom! transTo! amount!", shape: &moves},
		{op: Transfer, line: "POST /sapi/v1/futures/transfer", takes: "asset! amount! type!", shape: &moves},
		{
			op: Transfer, line: "POST /sapi/v1/sub-account/margin/transfer", takes: "email! asset! amount! type!",
			shape: &shape{asset: "asset", quantity: "amount", address: "email"},
		},
		{
			op: Transfer, line: "POST /sapi/v1/sub-account/futures/transfer", takes: "email! asset! amount! type!",
			shape: &shape{asset: "asset", quantity: "amount", address: "email"},
		},
		{
			op: Transfer, line: "POST /sapi/v1/sub-account/futures/internalTransfer", takes: "fromEmail! toEmail! futuresType! asset! amount!",
			shape: &toEmail,
		},
		{op: Transfer, line: "POST /sapi/v1/sub-account/transfer/subToSub", takes: "toEmail! asset! amount!", shape: &toEmail},
		{op: Transfer, line: "POST /sapi/v1/sub-account/transfer/subToMaster", takes: "asset! amount!", shape: &moves},
		{
			op: Transfer, line: "POST /sapi/v1/sub-account/universalTransfer", takes: "fromEmail toEmail fromAccountType! toAccountType! clientTranId symbol asset! amount!",
			shape: &toEmail,
		},
		{op: Transfer, line: "POST /sapi/v1/managed-subaccount/deposit", takes: "toEmail! asset! amount!", shape: &toEmail},
		{op: Transfer, line: "POST /sapi/v1/managed-subaccount/withdraw", takes: "fromEmail! asset! amount! transferDate", shape: &moves},
		{op: Transfer, line: "POST /sapi/v1/broker/transfer", takes: "fromId toId clientTranId asset! amount!", shape: &toID},
		{op: Transfer, line: "POST /sapi/v1/broker/transfer/futures", takes: "fromId toId futuresType! clientTranId asset! amount!", shape: &toID},
		{
			op: Transfer, line: "POST /sapi/v1/broker/universalTransfer", takes: "fromId toId fromAccountType! toAccountType! clientTranId asset! amount!",
			shape: &toID,
		},
		{op: Transfer, line: "POST /sapi/v1/portfolio/bnb-transfer", takes: "amount! transferSide!", shape: &shape{quantity: "amount"}},
		{op: Transfer, line: "POST /sapi/v1/portfolio/earn-asset-transfer", takes: "asset! amount! transferType!", shape: &moves},
		{op: Withdraw, line: "POST /sapi/v1/giftcard/createCode", takes: "token! amount!", shape: &shape{asset: "token", quantity: "amount"}},
		{
			op: Withdraw, line: "POST /sapi/v1/giftcard/buyCode", takes: "baseToken! faceToken! baseTokenAmount! discount",
			shape: &shape{asset: "baseToken", quantity: "baseTokenAmount"},
		},
		{op: Transfer, line: "POST /sapi/v1/giftcard/redeemCode", takes: "code! externalUid"},
	}
}

// binanceAdmin is what makes or changes keys and accounts.
func binanceAdmin() []row {
	return []row{
		{op: Admin, line: "POST /sapi/v1/account/enableFastWithdrawSwitch"},
		{op: Admin, line: "POST /sapi/v1/account/disableFastWithdrawSwitch"},
		{op: Admin, line: "POST /sapi/v1/sub-account/virtualSubAccount", takes: "subAccountString"},
		{op: Admin, line: "POST /sapi/v2/sub-account/subAccountApi/ipRestriction", takes: "email subAccountApiKey status ipAddress"},
		{op: Admin, line: "DELETE /sapi/v1/sub-account/subAccountApi/ipRestriction/ipList", takes: "email subAccountApiKey ipAddress"},
		{op: Admin, line: "POST /sapi/v1/broker/subAccountApi", takes: "subAccountId canTrade marginTrade futuresTrade"},
		{op: Admin, line: "DELETE /sapi/v1/broker/subAccountApi", takes: "subAccountId subAccountApiKey"},
		{op: Admin, line: "POST /sapi/v1/broker/subAccountApi/permission", takes: "subAccountId subAccountApiKey canTrade marginTrade futuresTrade"},
		{op: Admin, line: "POST /sapi/v1/broker/subAccountApi/permission/universalTransfer", takes: "subAccountId subAccountApiKey canUniversalTransfer"},
		{op: Admin, line: "POST /sapi/v2/broker/subAccountApi/ipRestriction", takes: "subAccountId subAccountApiKey status ipAddress"},
	}
}
